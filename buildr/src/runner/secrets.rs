//! Which secrets reach which stage: those that it asks for, as variables or as files.

use std::fs::{self, DirBuilder, Permissions};
use std::io;
use std::os::unix::fs::{DirBuilderExt as _, PermissionsExt as _};
use std::path::Path;

use protocol::job::WorkOrder;
use protocol::plan::SecretRequest;
use protocol::{Plan, StageName, Variable};

use crate::executor::MountOrder;

/// Where containers find secrets that are files.
const IN_CONTAINER: &str = "/run/secrets";

/// The secrets that a job may be given, and whether its plan says which.
pub(super) struct Vault {
    secrets: Vec<Variable>,
    /// Whether any part of the plan asks: then each gets what it asks for, and nothing else.
    asked: bool,
    trusted: bool,
}

/// Why a stage does not get what it asks for: a sentence.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum Denied {
    /// The build may have none.
    #[error(
        "{stage} asks for the secret {secret}, and this build is given none: it is not trusted, as its code may be \
         anybody's; skip the stage there by `when`, or list the repository in --trusted-repos"
    )]
    Untrusted { stage: StageName, secret: String },
    /// Nobody has it.
    #[error(
        "{stage} asks for the secret {secret}, which is not there; give it by --secret-file {secret}=FILE to \
         `buildr run`, or to the agents of the farm"
    )]
    Missing { stage: StageName, secret: String },
}

/// What one stage is given.
#[derive(Debug, Default)]
pub(super) struct Given {
    /// As variables; of a file its path.
    pub(super) variables: Vec<Variable>,
    /// The names and contents of files.
    files: Vec<Variable>,
}

impl Vault {
    pub(super) fn of(order: &WorkOrder, own: &[Variable], plan: &Plan) -> Self {
        let own = own.iter().filter(|_| order.trusted);
        let asked = plan.stages.iter().any(|stage| !stage.secrets.is_empty())
            || plan.prepare.as_ref().is_some_and(|prepare| !prepare.secrets.is_empty());
        Self { secrets: own.chain(&order.secrets).cloned().collect(), asked, trusted: order.trusted }
    }

    /// What a stage is given that asks for these.
    ///
    /// # Errors
    /// When it asks for what it cannot have.
    pub(super) fn given(&self, stage: &StageName, requests: &[SecretRequest]) -> Result<Given, Denied> {
        if !self.asked {
            return Ok(Given { variables: self.secrets.clone(), files: Vec::new() });
        }
        let mut given = Given::default();
        for request in requests {
            let (stage, secret) = (stage.clone(), request.from.clone());
            let found = self.secrets.iter().rev().find(|secret| secret.name == request.from);
            let found = found.ok_or(if self.trusted {
                Denied::Missing { stage, secret }
            } else {
                Denied::Untrusted { stage, secret }
            })?;
            let variable = &request.variable;
            if request.file {
                given.variables.push(Variable::new(variable, format!("{IN_CONTAINER}/{variable}")));
                given.files.push(Variable::new(variable, &*found.value));
            } else {
                given.variables.push(Variable::new(variable, &*found.value));
            }
        }
        Ok(given)
    }
}

impl Given {
    /// Whether a container must be made with it, and not only told.
    pub(super) fn has_files(&self) -> bool {
        !self.files.is_empty()
    }

    /// Writes the files into a new folder, if there are any. On this machine only the folder's owner comes through it;
    /// in the container every user may read them.
    pub(super) fn write(&self, folder: &Path) -> io::Result<Option<MountOrder>> {
        if self.files.is_empty() {
            return Ok(None);
        }
        DirBuilder::new().mode(0o700).create(folder)?;
        let source = folder.join("files");
        fs::create_dir(&source)?;
        fs::set_permissions(&source, Permissions::from_mode(0o755))?;
        for file in &self.files {
            let path = source.join(&file.name);
            fs::write(&path, &file.value)?;
            fs::set_permissions(&path, Permissions::from_mode(0o444))?;
        }
        Ok(Some(MountOrder { source, target: IN_CONTAINER.to_owned(), read_only: true }))
    }
}

#[cfg(test)]
mod tests {
    use protocol::job::TriggerKind;
    use protocol::{JobId, StagePlan};

    use super::*;

    fn request(variable: &str, from: &str, file: bool) -> SecretRequest {
        SecretRequest { variable: variable.to_owned(), from: from.to_owned(), file }
    }

    fn vault(trusted: bool, secrets: Vec<SecretRequest>) -> Vault {
        let stage = StagePlan { secrets, ..StagePlan::new("deploy".parse().unwrap(), Vec::new()) };
        let order = WorkOrder::new(JobId::fresh(), TriggerKind::Push, "/x".parse().unwrap());
        let own = [Variable::new("TOKEN", "own"), Variable::new("KEY", "k")];
        let secrets = if trusted { vec![Variable::new("TOKEN", "order's")] } else { Vec::new() };
        Vault::of(&WorkOrder { trusted, secrets, ..order }, &own, &Plan::new("x", vec![stage]))
    }

    fn names(given: &Given) -> Vec<(&str, &str)> {
        given.variables.iter().map(|it| (it.name.as_str(), it.value.as_str())).collect()
    }

    #[test]
    fn each_gets_what_it_asks_for_once_anybody_asks() {
        let stage = "deploy".parse().unwrap();
        let all = vault(true, Vec::new()).given(&stage, &[]).unwrap();
        assert_eq!(names(&all), [("TOKEN", "own"), ("KEY", "k"), ("TOKEN", "order's")]);
        let asks = vec![request("T", "TOKEN", false), request("SSH", "KEY", true)];
        let vault = vault(true, asks.clone());
        assert_eq!(names(&vault.given(&stage, &asks).unwrap()), [("T", "order's"), ("SSH", "/run/secrets/SSH")]);
        assert!(vault.given(&stage, &[]).unwrap().variables.is_empty());
    }

    #[test]
    fn what_it_cannot_have_is_said() {
        let stage = "deploy".parse().unwrap();
        let asks = vec![request("T", "NOPE", false)];
        let missing = vault(true, asks.clone()).given(&stage, &asks).unwrap_err().to_string();
        assert!(missing.starts_with("deploy asks for the secret NOPE, which is not there; give it by"), "{missing}");
        let asks = vec![request("T", "TOKEN", false)];
        let untrusted = vault(false, asks.clone()).given(&stage, &asks).unwrap_err().to_string();
        assert!(untrusted.contains("it is not trusted"), "{untrusted}");
        assert!(vault(false, Vec::new()).given(&stage, &[]).unwrap().variables.is_empty());
    }

    #[test]
    fn files_are_closed_to_others_of_this_machine() {
        let place = tempfile::tempdir().unwrap();
        let asks = vec![request("SSH", "KEY", true)];
        let given = vault(true, asks.clone()).given(&"deploy".parse().unwrap(), &asks).unwrap();
        let folder = place.path().join("secrets");
        let mount = given.write(&folder).unwrap().unwrap();
        assert_eq!(fs::metadata(&folder).unwrap().permissions().mode() & 0o777, 0o700);
        assert_eq!(fs::read(mount.source.join("SSH")).unwrap(), b"k");
        assert!(mount.read_only && mount.target == "/run/secrets");
        assert!(Given::default().write(&place.path().join("none")).unwrap().is_none());
        assert!(!place.path().join("none").exists());
    }
}
