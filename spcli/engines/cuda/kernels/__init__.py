"""Device code: Triton kernels, one file a subject, launched by the module of the same name one folder up."""
