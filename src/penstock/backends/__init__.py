"""What runs a flow elsewhere: each backend compiles the flow to native tasks, and none knows another."""
