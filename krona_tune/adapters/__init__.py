"""Every adaptation method: where it goes, how it enters a model and how it leaves."""
