"""The embedded world: pictures with exact answers, drawn from a seed alone, so nothing has to be downloaded."""
