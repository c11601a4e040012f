"""What training minimises: pure functions, and the objective that adds them up."""
