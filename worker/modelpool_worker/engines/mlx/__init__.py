"""Models of MLX, by mlx-lm."""
