"""Other people's programs beside ours, as they install: the same slide, tiles and weights, or the same tree."""
