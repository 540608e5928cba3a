"""Model extraction through gradient-norm appraisals, and which controls stop it."""
