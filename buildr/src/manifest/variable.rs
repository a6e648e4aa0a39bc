//! Which names an environment variable may have, and which of them are buildr's own.

/// Names that are the machine's or the daemon's and would break a container: they are never passed on.
const MACHINE: [&str; 7] = ["PATH", "HOME", "USER", "SHELL", "PWD", "HOSTNAME", "TMPDIR"];

/// Whether it is `[A-Za-z_][A-Za-z0-9_]*`.
pub(crate) fn is_name(name: &str) -> bool {
    name.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_')
        && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_')
}

/// Whether buildr alone sets it.
pub(crate) fn is_reserved(name: &str) -> bool {
    name == "CI" || name.starts_with("BUILDR_")
}

/// Whether a variable of the agent's environment may reach a container when the manifest asks for it.
pub(crate) fn is_inheritable(name: &str) -> bool {
    let machine = MACHINE.contains(&name) || name.starts_with("LD_") || name.starts_with("DOCKER_");
    is_name(name) && !is_reserved(name) && !machine
}
