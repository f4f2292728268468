"""What `main.py` does: the command line, and a run from config to farewell."""
