"""Years of random habits, restarts and clocks: `python3 -m tests.soak [--years N] [--seed S] [--only STAY]`."""
