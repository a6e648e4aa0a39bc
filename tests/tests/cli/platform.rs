//! Stages for another platform than this machine's, on a daemon that truly has none to run it with.

use std::collections::HashMap;

use bollard::query_parameters::{CreateImageOptionsBuilder, ListImagesOptionsBuilder, RemoveImageOptionsBuilder};
use farm::registry::{OTHER_PLATFORM, Registry};
use futures_util::StreamExt as _;

use crate::place::Place;

#[tokio::test]
async fn what_no_machine_here_can_run_is_skipped_and_said() {
    let Some(place) = Place::new().await else { return };
    let registry = Registry::with(&[]).await;
    let both = registry.image_for_all();
    place.write(
        ".buildr.yml",
        format!(
            "image: {}\nstages: [other, after, beside]\nother:\n  image: {both}\n  platform: {OTHER_PLATFORM}\n  \
             script: echo never\nafter:\n  needs: [other]\n  script: echo never\nbeside:\n  needs: []\n  script: \
             echo here\n",
            crate::place::image()
        ),
    );
    // Somebody uses the image as it is for this machine, and goes on to.
    let options = CreateImageOptionsBuilder::default().from_image(&both).build();
    let steps: Vec<_> = place.docker.create_image(Some(options), None, None).collect().await;
    assert!(steps.iter().all(Result::is_ok), "{steps:?}");
    let own = place.docker.inspect_image(&both).await.unwrap().id.unwrap();

    let ran = place.run(&["run"]).await;
    let why = format!("other: it is for {OTHER_PLATFORM}: Docker on this machine, which is ");
    ran.check(0, &["beside | here\n", "the job other is for ", &format!("skipped   {why}")]);
    ran.shows(&["an emulator makes it do so", "skipped   after: it needs other, which was skipped", "passed in "]);
    assert_eq!(place.docker.inspect_image(&both).await.unwrap().id.unwrap(), own);

    // Whoever asks for it by its name does not want to hear that all is well.
    let ran = place.run(&["run", "--only", "other"]).await;
    ran.check(3, &[&format!("errored (daemon): other does not run here: it is for {OTHER_PLATFORM}")]);
    // It is here now.
    let ran = place.run(&["run", "--offline"]).await;
    ran.check(0, &[&format!("skipped   {why}")]).hides(&["buildr: pulling"]);
    place.nothing_is_left().await;
    for image in images_of(&place, &registry).await {
        let options = RemoveImageOptionsBuilder::default().force(true).build();
        place.docker.remove_image(&image, Some(options), None).await.unwrap();
    }
}

/// The images of this test's registry, by their ids: each has a label that names it.
async fn images_of(place: &Place, registry: &Registry) -> Vec<String> {
    let name = registry.image_for_all();
    let label = format!("registry={}", name.split('/').next().unwrap());
    let filters = HashMap::from([("label".to_owned(), vec![label])]);
    let options = ListImagesOptionsBuilder::default().filters(&filters).build();
    let found: Vec<String> =
        place.docker.list_images(Some(options)).await.unwrap().into_iter().map(|image| image.id).collect();
    let status = place.docker.info().await.unwrap().driver_status.unwrap_or_default().concat();
    let in_one = status.iter().any(|word| word == "io.containerd.snapshotter.v1");
    assert_eq!(
        found.len(),
        if in_one { 1 } else { 2 },
        "one for each platform, or with containerd's store one for both"
    );
    found
}
