"""Many runs at once by Ray, here or on a cluster. Nothing imports this room."""
