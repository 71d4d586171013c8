"""Everything that moves weights by gradients: the loop, its engines, its data, a stage a file."""
