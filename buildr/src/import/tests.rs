//! x
use super::*;
#[test]
fn look() {
    let path = std::env::var("LOOK").unwrap();
    let got = import(&std::fs::read(&path).unwrap(), Path::new(&path), None).unwrap();
    println!("{}\n=====", got.manifest);
    for n in got.notes {
        println!("{n}");
    }
}
