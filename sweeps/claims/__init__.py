"""The article's claims: each with its study, the measured answer, the verdict and its picture."""
