"""Points that are solved, not trained: least squares in closed form, kernel systems, features, Theorem 1."""
