"""Networks, and training R replicas of one network together as a cohort."""
