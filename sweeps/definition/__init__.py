"""What a study file asks, as frozen values, and everything that is checked on the way in."""
