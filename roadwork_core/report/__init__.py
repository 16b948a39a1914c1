"""What a run found, for people: figures with intervals, plots, an HTML report, a model card."""
