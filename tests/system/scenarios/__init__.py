"""One small file a scenario; they run in the order of their numbers, in the guest."""
