"""Reports: tables, plots, maps, videos and the page, all made from a run folder alone."""
