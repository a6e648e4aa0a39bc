//! What a build left: found on its page, looked into, and brought to another machine as it was.

use buildr::carry::{self, Shelf};
use farm::browser::Scripts;
use protocol::api::Status;

use super::{on_a_farm, page, says, url};

const LEAVES: &str = "\
image: x
stages: [build]
build:
  script: [write out/app the program, write out/notes.txt hello]
  artifacts: [out/]
";

#[tokio::test]
async fn what_a_build_left_is_found_and_brought_home() {
    on_a_farm(Scripts::On, async |browser, farm| {
        farm.start_agent("a", 1).await;
        let number = farm.api().begin(LEAVES).await;
        farm.api().until_is(number, Status::Passed).await;
        browser.open(&url(farm, &page(number))).await;
        browser.click("#artifacts summary").await;
        browser.click("#artifacts tbody th a").await;
        says(browser, "h1", "build").await;
        says(browser, ".files", "out/app").await;
        says(browser, ".files", "11 bytes").await;
        // As a browser would save it.
        let fetched = "const answer = await fetch(document.querySelector('a.button').href); \
                       return [answer.headers.get('content-disposition'), (await answer.arrayBuffer()).byteLength]";
        let (name, length): (String, u64) = browser.run(fetched).await;
        assert!(name.ends_with(&format!("-{}-build.tar.zst\"", number.0)), "{name}");

        let client = &farm.api().client;
        let [one] = &client.artifacts(number).await.unwrap()[..] else { panic!("one stage left something") };
        assert_eq!((one.files, one.bytes, one.expired), (2, length, false));
        let folder = tempfile::tempdir().unwrap();
        let shelf = Shelf::Folder(folder.path().to_owned());
        client.artifact(number, &one.sha256, &folder.path().join(&one.sha256)).await.unwrap();
        let archive = shelf.fetch(&one.kept(), folder.path()).await.unwrap();
        std::fs::create_dir(folder.path().join("home")).unwrap();
        assert_eq!(carry::restore(&archive, &folder.path().join("home")).unwrap(), 2);
        assert_eq!(std::fs::read_to_string(folder.path().join("home/out/app")).unwrap().trim(), "the program");
        // A build does not have what another one left.
        let other = farm.api().begin(super::PASSES).await;
        farm.api().until_is(other, Status::Passed).await;
        assert!(client.artifacts(other).await.unwrap().is_empty());
        let refused = client.artifact(other, &one.sha256, &folder.path().join("x")).await.unwrap_err().to_string();
        assert!(refused.contains("no such archive"), "{refused}");
    })
    .await;
}
