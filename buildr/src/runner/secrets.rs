//! Which secrets reach which stage: those that it asks for, as variables or as files.

use std::fs::{self, DirBuilder, Permissions};
use std::io;
use std::os::unix::fs::{DirBuilderExt as _, PermissionsExt as _};
use std::path::Path;

use protocol::job::{TriggerKind, WorkOrder};
use protocol::plan::SecretRequest;
use protocol::{Plan, StageName, Variable};

use crate::executor::MountOrder;

/// Where containers find secrets that are files.
const IN_CONTAINER: &str = "/run/secrets";

/// The secrets that a job may be given, and whether its plan says which.
pub(super) struct Vault {
    /// This machine's, by variables' names.
    own: Vec<Variable>,
    /// The farm's, of which each is given to who asks for it and to nobody else.
    farms: Vec<Variable>,
    /// Whether any part of the plan asks: then each gets what it asks for, and nothing else.
    asked: bool,
    trusted: bool,
    /// Whether a person runs it on this machine, without a farm that would open what is sealed.
    local: bool,
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
         `buildr run` or to the agents of the farm, or have the farm keep it: `buildr secret set {secret} --project URL`"
    )]
    Missing { stage: StageName, secret: String },
    /// It stands sealed in the manifest, and only a farm opens it.
    #[error(
        "{stage} asks for {secret}, whose value stands sealed in the manifest, and only the farm that it was sealed \
         for opens it; give it here by --secret-file {secret}=FILE or --secret {secret}"
    )]
    SealedHere { stage: StageName, secret: String },
    /// It stands sealed in the manifest, and this farm did not open it.
    #[error(
        "{stage} asks for {secret}, whose value stands sealed in the manifest and does not open: it was sealed for \
         another project or another farm, or changed since; seal it again with `buildr encrypt {secret} --project URL`"
    )]
    Sealed { stage: StageName, secret: String },
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
        let own = own.iter().filter(|_| order.trusted).cloned().collect();
        let asked = plan.secret_requests().any(|request| request.secure.is_none());
        let local = order.trigger == TriggerKind::Local;
        Self { own, farms: order.secrets.clone(), asked, trusted: order.trusted, local }
    }

    /// What a stage is given that asks for these.
    ///
    /// # Errors
    /// When it asks for what it cannot have.
    pub(super) fn given(&self, stage: &StageName, requests: &[SecretRequest]) -> Result<Given, Denied> {
        let mut given = Given::default();
        if !self.asked {
            // No variable has a name such as prod/ssh: who wants that one says as what.
            let can_be_variable = |name: &str| name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_');
            given.variables.extend(self.own.iter().filter(|secret| can_be_variable(&secret.name)).cloned());
        }
        for request in requests {
            let found = self.found(request).ok_or_else(|| self.denied(stage, request))?;
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

    /// The value that is asked for: the farm's before this machine's, and of several of one name the last.
    fn found(&self, request: &SecretRequest) -> Option<&Variable> {
        let among = |secrets: &'_ [Variable], name: &str| secrets.iter().rposition(|secret| secret.name == name);
        let farms = |name: &str| among(&self.farms, name).map(|place| &self.farms[place]);
        let own = |name: &str| among(&self.own, name).map(|place| &self.own[place]);
        match &request.secure {
            None => farms(&request.from).or_else(|| own(&request.from)),
            Some(sealed) => farms(sealed).or_else(|| own(&request.from).filter(|_| self.local)),
        }
    }

    fn denied(&self, stage: &StageName, request: &SecretRequest) -> Denied {
        let (stage, secret) = (stage.clone(), request.from.clone());
        match &request.secure {
            Some(_) if self.local => Denied::SealedHere { stage, secret },
            _ if !self.trusted => Denied::Untrusted { stage, secret },
            Some(_) => Denied::Sealed { stage, secret },
            None => Denied::Missing { stage, secret },
        }
    }
}

impl Given {
    /// Whether there is nothing of that.
    pub(super) fn is_empty(&self) -> bool {
        self.variables.is_empty() && self.files.is_empty()
    }

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
    use protocol::{JobId, StagePlan};

    use super::*;

    fn request(variable: &str, from: &str, file: bool) -> SecretRequest {
        SecretRequest { variable: variable.to_owned(), from: from.to_owned(), file, secure: None }
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
        assert_eq!(names(&all), [("TOKEN", "own"), ("KEY", "k")], "the farm's are asked for by name");
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
    fn sealed_values_are_found_by_their_text() {
        let stage = "deploy".parse().unwrap();
        let sealed = SecretRequest { secure: Some("b1.x.y".to_owned()), ..request("T", "T", false) };
        let check = |kind, secrets: &[(&str, &str)], own: &[(&str, &str)], expect: Result<&[(&str, &str)], &str>| {
            let all = |these: &[(&str, &str)]| these.iter().map(|it| Variable::new(it.0, it.1)).collect::<Vec<_>>();
            let plan =
                StagePlan { secrets: vec![sealed.clone()], ..StagePlan::new("deploy".parse().unwrap(), Vec::new()) };
            let order = WorkOrder::new(JobId::fresh(), kind, "/x".parse().unwrap());
            let order = WorkOrder { trusted: true, secrets: all(secrets), ..order };
            let vault = Vault::of(&order, &all(own), &Plan::new("x", vec![plan.clone()]));
            match (vault.given(&stage, &plan.secrets), expect) {
                (Ok(given), Ok(expect)) => assert_eq!(names(&given), expect),
                (Err(denied), Err(part)) => assert!(denied.to_string().contains(part), "{denied}"),
                (got, _) => panic!("{got:?}"),
            }
        };
        use TriggerKind::{Local, Push};
        // Who asks for nothing but sealed values has what the machine gives besides.
        let farms = [("b1.x.y", "opened"), ("prod/ssh", "k"), ("OTHER", "o")];
        check(Push, &farms, &[("OWN", "w")], Ok(&[("OWN", "w"), ("T", "opened")]));
        check(Push, &[], &[("T", "mine")], Err("buildr encrypt T --project URL"));
        check(Local, &[], &[("T", "mine")], Ok(&[("T", "mine"), ("T", "mine")]));
        check(Local, &[], &[], Err("--secret-file T=FILE or --secret T"));
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
