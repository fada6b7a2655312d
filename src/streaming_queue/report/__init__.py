"""Files that people and scripts read: a run's directory, its rows, its summary."""
