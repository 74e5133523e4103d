"""Many trainings as one: jobs that know what is done, and the tables over all of them."""
