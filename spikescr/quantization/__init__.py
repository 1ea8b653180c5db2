"""From a folded network to one in integers: scales from recordings, fine-tuning, the file that keeps them."""
