"""Tasks of one's own: their files, labels and splits become a task and its three parts."""
