//! Somebody hears that a branch broke and that it is fixed: by webhook and by mail, from the push to the letter, also
//! when the server that takes them was away at first.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking, also in what its cases share")]

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use coordinator::config::Notify;
use coordinator::mail::MailSettings;
use farm::farm::{Farm, Repository, in_memory};
use farm::hearing::{Letter, mail_server, web_server};
use hmac::{Hmac, KeyInit as _, Mac as _};
use protocol::BuildNumber;
use protocol::api::{ChangeProject, Forge, NewProject, Status};
use sha2::Sha256;

const GREEN: &str = "image: x\nstages: [test]\ntest: {script: [print all is well]}\n";
const RED: &str = "image: x\nstages: [test]\ntest: {script: [exit 3]}\n";

const KEY: &[u8] = b"sixteen characters";

async fn pushed(farm: &Farm, repository: &Repository, manifest: &str, expect: Status) -> BuildNumber {
    repository.commit(&[(".buildr.yml", manifest)]);
    let number = farm.api().submit(repository).await;
    let view = farm.api().until_over(number).await;
    assert_eq!(view.build.status, expect, "{view:#?}");
    number
}

#[tokio::test]
async fn a_webhook_hears_of_a_branch_that_broke_and_was_fixed() {
    in_memory(async |farm| {
        // Its first answer is that it cannot at present.
        let mut server = web_server(1).await;
        farm.config.notify = Some(Notify { url: format!("http://{}/hook", server.address), key: KEY.to_vec() });
        farm.start_coordinator().await;
        farm.start_agent("a", 1).await;
        let repository = Repository::with_manifest(GREEN);
        pushed(farm, &repository, GREEN, Status::Passed).await;
        let broke = pushed(farm, &repository, RED, Status::Failed).await;
        let fixed = pushed(farm, &repository, GREEN, Status::Passed).await;

        let first = server.next().await;
        assert!(first.refused);
        let told = [server.next().await, server.next().await];
        assert_eq!(first.headers["webhook-id"], told[0].headers["webhook-id"], "it is known again");
        assert_ne!(told[0].headers["webhook-id"], told[1].headers["webhook-id"]);
        for (posted, (kind, build, before)) in
            told.iter().zip([("branch.broken", broke, 1), ("branch.fixed", fixed, broke.0)])
        {
            let said: serde_json::Value = serde_json::from_str(&posted.body).unwrap();
            assert_eq!(said["type"], kind);
            assert_eq!(said["data"]["branch"], "main");
            assert_eq!(said["data"]["build"], build.0);
            assert_eq!(said["data"]["before"]["build"], before);
            let page = said["data"]["url"].as_str().unwrap();
            assert!(page.ends_with(&format!("/builds/{}", build.0)), "{page}");
            let (id, at) = (&posted.headers["webhook-id"], &posted.headers["webhook-timestamp"]);
            let mut mac = Hmac::<Sha256>::new_from_slice(KEY).unwrap();
            mac.update(format!("{id}.{at}.{}", posted.body).as_bytes());
            let expect = format!("v1,{}", STANDARD.encode(mac.finalize().into_bytes()));
            assert_eq!(posted.headers["webhook-signature"], expect);
        }
        assert!(server.is_quiet());
    })
    .await;
}

/// A header of a letter, or its body without one.
fn part(letter: &Letter, name: &str) -> String {
    let text = letter.text.as_ref().unwrap();
    let (head, body) = text.split_once("\n\n").unwrap();
    if name.is_empty() {
        return body.to_owned();
    }
    let unfolded = head.replace("\n ", " ");
    let found = unfolded.lines().find_map(|line| line.strip_prefix(&format!("{name}: ")));
    found.unwrap_or_else(|| panic!("no {name} in\n{head}")).to_owned()
}

#[tokio::test]
async fn owners_get_mail_of_a_branch_that_broke_and_was_fixed() {
    in_memory(async |farm| {
        // It says "later" to the first letter.
        let mut server = mail_server(1).await;
        farm.config.mail = Some(MailSettings {
            server: format!("smtp://{}", server.address).parse().unwrap(),
            login: Some(("ci".to_owned(), "pa55word".to_owned())),
            from: "buildr <ci@example.org>".parse().unwrap(),
            to: vec!["all@example.org".parse().unwrap()],
        });
        farm.start_coordinator().await;
        farm.start_agent("a", 1).await;
        let (own, other) = (Repository::with_manifest(GREEN), Repository::with_manifest(GREEN));
        let mail = vec!["Ada <ada@example.org>".to_owned(), "all@example.org".to_owned()];
        let new = NewProject { forge: Some(Forge::Generic), mail, ..NewProject::new(own.url()) };
        let added = farm.api().client.add_project(&new).await.unwrap().project;
        assert_eq!(added.mail, ["a…@example.org", "a…@example.org"]);

        pushed(farm, &own, GREEN, Status::Passed).await;
        let broke = pushed(farm, &own, RED, Status::Failed).await;
        // Each once, also who is named twice; who is put off hears it later.
        let mut letters = [server.next().await, server.next().await, server.next().await];
        letters.sort_by_key(|letter| (letter.text.is_some(), letter.to.clone()));
        let [refused, ada, all] = &letters;
        assert_eq!(
            (refused.text.is_none(), ada.to.as_str(), all.to.as_str()),
            (true, "ada@example.org", "all@example.org")
        );
        let login = STANDARD.encode("\0ci\0pa55word");
        assert!(letters.iter().all(|letter| letter.login.as_deref() == Some(&*login)), "{letters:?}");
        let name = own.url().identity();
        assert_eq!(part(ada, "From"), "buildr <ci@example.org>");
        assert_eq!(part(ada, "To"), "Ada <ada@example.org>");
        assert_eq!(part(ada, "Auto-Submitted"), "auto-generated");
        let subject = part(ada, "Subject");
        assert!(subject.starts_with(&format!("{name} main is broken: ")) && subject.contains("test"), "{subject}");
        let body = part(all, "").replace("=\n", "");
        let page = format!("/builds/{}", broke.0);
        for expect in ["is broken", "exit code 3", "author  Ada", "commit  ", &page, "/builds/1"] {
            assert!(body.contains(expect), "{expect:?} is not in\n{body}");
        }

        // A project that names nobody: the farm's alone. And nothing while nothing changes.
        let nobody = ChangeProject { mail: Some(Vec::new()), ..ChangeProject::default() };
        farm.api().client.change_project(&added.identity, &nobody).await.unwrap();
        pushed(farm, &own, RED, Status::Failed).await;
        pushed(farm, &own, GREEN, Status::Passed).await;
        let fixed = server.next().await;
        assert_eq!(fixed.to, "all@example.org");
        assert!(part(&fixed, "Subject").starts_with(&format!("{name} main is fixed")), "{fixed:?}");
        pushed(farm, &other, GREEN, Status::Passed).await;
        pushed(farm, &other, RED, Status::Failed).await;
        let broken = server.next().await;
        assert_eq!((broken.to.as_str(), part(&broken, "Subject").contains("is broken")), ("all@example.org", true));
        assert!(server.is_quiet());
    })
    .await;
}

#[tokio::test]
async fn a_farm_without_a_mail_server_says_so() {
    in_memory(async |farm| {
        farm.start_coordinator().await;
        let repository = Repository::with_manifest(GREEN);
        let mail = vec!["ada@example.org".to_owned()];
        let new = NewProject { forge: Some(Forge::Generic), mail, ..NewProject::new(repository.url()) };
        let refused = farm.api().client.add_project(&new).await.unwrap_err();
        assert!(refused.to_string().contains("--smtp"), "{refused}");
    })
    .await;
}
