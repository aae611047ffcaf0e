"""What a job is: the spec of one training run, the slots it is made of, and the loop that runs it."""
