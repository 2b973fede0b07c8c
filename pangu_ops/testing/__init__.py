"""What tests, benches and `pangu check` share; part of the package so that a user's machine can be checked."""
