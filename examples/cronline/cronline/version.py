"""The version; the build writes the released one over it."""

VERSION = "unreleased"
