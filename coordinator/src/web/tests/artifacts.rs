//! What builds left, for people: listed, downloaded, looked into, and told of when it is gone.

use std::os::unix::fs::symlink;

use buildr::carry;
use protocol::BuildNumber;
use protocol::api::{ArtifactFiles, ArtifactView};
use protocol::plan::Artifacts;

use super::*;
use crate::testing::Agent;

/// A build that is over and left an archive of three files; gives the archive's name.
async fn left(farm: &Farm, agent: &Agent, folder: &TempDir, expire_ms: Option<u64>) -> String {
    let at = |name: &str| folder.path().join(name);
    std::fs::create_dir_all(at("work/dist")).unwrap();
    std::fs::write(at("work/dist/app"), "the program").unwrap();
    std::fs::write(at("work/dist/<script>alert(1)<\u{202e}"), "").unwrap();
    symlink("/etc/passwd", at("work/dist/link")).ok();
    let what = Artifacts { paths: vec!["dist".to_owned()], exclude: Vec::new(), when: Default::default(), expire_ms };
    let collected = carry::collect(&at("work"), &what, &at("new"), &|| false).unwrap().unwrap();
    let build = farm.submit().await;
    let (claimed, _) = agent.work(farm).await;
    let archives = farm.desk.archives.make_folder(build).unwrap();
    std::fs::copy(&collected.archive, archives.join(&collected.sha256)).unwrap();
    let (stage, sha256) = ("package".parse().unwrap(), collected.sha256.clone());
    let kept = JobEvent::ArtifactsKept { stage, files: 3, bytes: collected.bytes, sha256, expire_ms };
    agent.happened(claimed.claim, kept).await;
    agent.finish(claimed.claim, Ending::passed()).await;
    farm.until_status(build, "passed").await;
    collected.sha256
}

async fn listed(farm: &Farm, build: u64) -> Vec<ArtifactView> {
    let (status, _, body) = ask(farm, &format!("GET /api/v1/builds/{build}/artifacts"), "", "").await;
    assert_eq!(status, 200, "{body}");
    serde_json::from_str(&body).unwrap()
}

#[tokio::test]
async fn what_a_build_left_is_listed_looked_into_and_downloaded() {
    let folder = tempdir().unwrap();
    let farm = Farm::start(&folder).await;
    let agent = farm.agent("a1").await;
    let sha256 = left(&farm, &agent, &folder, None).await;
    let all = listed(&farm, 1).await;
    let [one] = &all[..] else { panic!("{all:?}") };
    assert_eq!((one.stage.as_str(), one.files, &one.sha256, one.expired), ("package", 3, &sha256, false));

    let path = format!("/api/v1/builds/1/artifacts/{sha256}");
    let (status, head, body) = ask(&farm, &format!("HEAD {path}"), "", "").await;
    assert_eq!((status, body.as_str()), (200, ""), "{head}");
    assert!(head.contains("content-type: application/zstd") && head.contains("nosniff"), "{head}");
    assert!(head.contains(&format!("content-length: {}", one.bytes)), "{head}");
    assert!(head.contains("content-disposition: attachment; filename=\"") && head.contains(".tar.zst\""), "{head}");
    let (_, _, body) = ask(&farm, &format!("GET {path}/files"), "", "").await;
    let found: ArtifactFiles = serde_json::from_str(&body).unwrap();
    assert!(!found.more && found.files.len() == 3, "{body}");
    let link = found.files.iter().find(|file| file.link.is_some()).unwrap();
    assert_eq!((link.path.as_str(), link.link.as_deref()), ("dist/link", Some("/etc/passwd")));

    let (_, _, page) = ask(&farm, "GET /builds/1", "", "").await;
    let own = format!("/builds/1/artifacts/{sha256}");
    assert!(page.contains(&format!("href=\"{own}\"")) && page.contains(&format!("href=\"{path}\" download")), "{page}");
    let (status, _, page) = ask(&farm, &format!("GET {own}"), "", "").await;
    assert!(status == 200 && page.contains("dist/app") && page.contains("11 bytes"), "{page}");
    assert!(page.contains("&lt;script&gt;alert") && !page.contains("<script>alert") && !page.contains('\u{202e}'));

    // Only what a build left is given, by its name alone.
    let other = "0".repeat(64);
    for path in [
        format!("/api/v1/builds/1/artifacts/{other}"),
        "/api/v1/builds/1/artifacts/..%2f..%2fetc%2fpasswd".to_owned(),
        format!("/api/v1/builds/1/artifacts/{}", sha256.to_uppercase()),
        format!("/api/v1/builds/9/artifacts/{sha256}"),
        format!("/api/v1/builds/9/artifacts/{sha256}/files"),
        "/api/v1/builds/9/artifacts".to_owned(),
        format!("/builds/9/artifacts/{sha256}"),
    ] {
        assert_eq!(ask(&farm, &format!("GET {path}"), "", "").await.0, 404, "{path}");
    }
    assert_eq!(ask(&farm, "GET /api/v1/builds/x/artifacts", "", "").await.0, 400);
    // What is there, but no archive.
    let place = farm.desk.archives.path(BuildNumber(1), &sha256).unwrap();
    std::fs::write(&place, "broken").unwrap();
    assert_eq!(ask(&farm, &format!("GET {path}/files"), "", "").await.0, 422);
    let (status, _, page) = ask(&farm, &format!("GET {own}"), "", "").await;
    assert!(status == 200 && page.contains("cannot be looked into"), "{page}");
    std::fs::remove_file(&place).unwrap();
    assert_eq!(ask(&farm, &format!("GET {path}"), "", "").await.0, 404);
    farm.stop().await;
}

#[tokio::test]
async fn whose_time_is_over_is_said_and_not_given() {
    let folder = tempdir().unwrap();
    let farm = Farm::start(&folder).await;
    let agent = farm.agent("a1").await;
    let sha256 = left(&farm, &agent, &folder, Some(60_000)).await;
    assert!(listed(&farm, 1).await[0].expires_ms.is_some());
    let now = buildr::process::clock::now_ms();
    assert_eq!(crate::expiry::sweep(&farm.desk, now + 120_000).await.unwrap(), 1);
    let all = listed(&farm, 1).await;
    assert!(all.len() == 1 && all[0].expired && all[0].files == 3, "{all:?}");
    for path in ["/api/v1/builds/1/artifacts", "/builds/1/artifacts"] {
        let (status, _, body) = ask(&farm, &format!("GET {path}/{sha256}"), "", "").await;
        assert!(status == 410 && body.contains("not kept any more"), "{path}: {status} {body}");
    }
    let (_, _, page) = ask(&farm, "GET /builds/1", "", "").await;
    assert!(page.contains("expired") && !page.contains(&sha256), "{page}");
    farm.stop().await;
}

#[tokio::test]
async fn who_may_not_look_at_builds_gets_none() {
    let folder = tempdir().unwrap();
    let farm = Farm::with(&folder, |config| config.public_url = Some("https://ci.example".to_owned())).await;
    let agent = farm.agent("a1").await;
    let sha256 = left(&farm, &agent, &folder, None).await;
    for path in ["".to_owned(), format!("/{sha256}"), format!("/{sha256}/files")] {
        let request = format!("HEAD /api/v1/builds/1/artifacts{path}");
        assert_eq!(ask_as(&farm, "ci.example", &request, "", "").await.0, 401, "{path}");
        assert_eq!(ask_as(&farm, "ci.example", &request, &writer(&folder), "").await.0, 200, "{path}");
    }
    farm.stop().await;
}
