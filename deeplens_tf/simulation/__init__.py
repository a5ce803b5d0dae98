"""Parameters of a lens (priors) and the image they make (render)."""
