"""What authors of providers test with: the conformance class and its fixtures (a pytest plugin)."""
