"""From a plan to a study that can run: Ray, the data, the folder."""
