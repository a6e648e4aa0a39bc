//! What becomes of scripts: they do the same, and where they do not, it is told.

use super::*;

#[test]
fn steps_of_github_do_not_reach_each_other() {
    let steps = |steps: &str| format!("on: push\njobs:\n  a:\n    runs-on: ubuntu-latest\n    steps: [{steps}]\n");
    check(
        Kind::Github,
        &steps("{run: mkdir -p build && cd build && make}, {run: make check}"),
        &["(\n      mkdir -p build && cd build && make\n      )", "- make check"],
    );
    check(
        Kind::Github,
        &steps("{run: \"echo '${{ secrets.KEY }}' > key.pem\"}"),
        &["echo ''\"${KEY}\"'' > key.pem", "secrets: [KEY]"],
    );
    check(
        Kind::Github,
        &steps("{run: \"cat > v <<'EOF'\\n${{ github.sha }}\\nEOF\"}"),
        &["$BUILDR_COMMIT", "# ----\n# look at: `${{ github.sha }}` in the script of `a`"],
    );
}
