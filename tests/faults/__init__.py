"""What a cluster does to a study, really done."""
