"""Plans a flow and runs it in local processes; knows no stage, store or format."""
