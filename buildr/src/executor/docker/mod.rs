//! Runs containers through a Docker daemon. Only this room names bollard.
