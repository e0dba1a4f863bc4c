"""What a cohort's predictions say: gap, bias and variance, memorization, privacy. Arrays in, numbers out."""
