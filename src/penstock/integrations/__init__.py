"""What joins Penstock to other systems; each part is started or found by its name, and none knows another."""
