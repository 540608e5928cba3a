"""What all studies share: the command line, jobs, records, parties, pages and plots."""
