use crate::world::{MIB, World};

#[tokio::test(flavor = "multi_thread")]
async fn files_of_every_awkward_size_arrive_whole() {
    for size in [0, 1, MIB - 1, MIB, MIB + 1, 17_800_000] {
        let world = World::new(size, 3).await;
        let report = world.download().await.unwrap();
        world.check(&report);
        assert_eq!(report.fetched, size);
        assert!(report.wasted <= 2 * MIB, "{report:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_empty_file_needs_no_source() {
    let world = World::new(0, 0).await;
    world.check(&world.download().await.unwrap());
}
