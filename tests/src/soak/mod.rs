//! A soak: builds of all shapes are thrown at a farm of real processes, over real RabbitMQ and real Docker, while a
//! monkey breaks parts of it at random. At the end it is counted what became of each build, against what its script
//! does.

mod line;
mod counter;
mod shapes;
mod processes;
mod thrower;
mod monkey;
mod tally;

use std::time::Duration;

use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::chance::Chance;
use crate::rabbit::Vhost;
use monkey::Monkey;
use processes::Processes;
use thrower::Thrower;

pub use tally::Tally;

/// How a soak goes.
#[derive(Debug, Clone, Copy)]
pub struct Soak {
    /// How many builds are thrown.
    pub builds: u32,
    /// The longest time in which they are thrown.
    pub most: Duration,
    /// From what all chance comes.
    pub seed: u64,
    /// Whether parts are broken.
    pub breaks: bool,
}

/// How long the farm may take, once nothing is broken any more, until all is over and nothing is left.
const CALM: Duration = Duration::from_secs(180);

/// How often it is said how far things are.
const SAY_EVERY: Duration = Duration::from_secs(5);

/// Runs a soak in a vhost of its own, and gives what was counted.
///
/// # Panics
/// When the farm cannot even be started.
pub async fn run(soak: Soak, vhost: Vhost) -> Tally {
    let mut chance = Chance::new(soak.seed);
    let farm = Processes::start(vhost).await;
    let thrower = Thrower::new(&farm, soak.builds, Chance::new(chance.number()));
    let monkey = Monkey::new(&farm, &thrower, Chance::new(chance.number()));
    let calm = CancellationToken::new();
    let began = Instant::now();
    let say = async {
        loop {
            tokio::time::sleep(SAY_EVERY).await;
            println!("{:>4} s  {}  {}", began.elapsed().as_secs(), thrower.so_far().await, monkey.so_far().0);
        }
    };
    let throw = async {
        if tokio::time::timeout(soak.most, thrower.throw()).await.is_err() {
            println!("the time is over; what was not thrown is not thrown any more");
        }
        calm.cancel();
    };
    let tally = async {
        if soak.breaks {
            // Two hands, so that things break together.
            tokio::join!(throw, monkey.keep(&calm), monkey.keep(&calm));
        } else {
            throw.await;
        }
        println!("{:>4} s  nothing is broken any more; waiting until all is over", began.elapsed().as_secs());
        farm.all_up().await;
        let ended = thrower.until_over(CALM).await;
        let left = farm.until_clean(CALM).await;
        let mut tally = thrower.count(&monkey.harm(), ended).await;
        tally.orphans = left;
        tally
    };
    let mut tally = tokio::select! {
        tally = tally => tally,
        () = say => Tally::default(),
    };
    tally.orphans.extend(farm.stop().await);
    if !tally.is_good() {
        farm.keep_logs();
    }
    tally.broken = monkey.so_far().1;
    tally.seconds = began.elapsed().as_secs();
    tally
}
