"""The demo model: a tiny Llama that knows the pool, trained by this package and kept in configs."""
