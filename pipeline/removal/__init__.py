"""Documents that somebody asked to have removed: what a request says, and how its copies are found."""
