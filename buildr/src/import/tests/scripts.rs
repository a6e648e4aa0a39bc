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
        &["${BUILDR_COMMIT}", "# ----\n# look at: `${{ github.sha }}` in the script of `a`"],
    );
}

#[test]
fn what_gitlab_goes_on_with() {
    let gitlab = |text: &str, parts: &[&str]| {
        check(Kind::Gitlab, text, parts);
        let got = import(text.as_bytes(), Path::new("ci.yml"), Some(Kind::Gitlab)).unwrap();
        manifest::read(got.manifest.as_bytes(), ".buildr.yml").unwrap_or_else(|error| panic!("{error}\n{text}"));
    };
    gitlab(
        "a:\n  artifacts: {reports: {dotenv: build.env}}\n  script: make\n  before_script: [setup]\n",
        &["- setup\n    - make\n    - cat build.env >> \"$BUILDR_ENV\"\n"],
    );
    gitlab(
        "a:\n  variables: {D: out}\n  script: x\n  artifacts: {reports: {junit: $D/x.xml}}\n",
        &["junit: out/x.xml"],
    );
    gitlab("a: {script: x, coverage: '/Coverage: \\d+\\.\\d+%/'}\n", &["coverage: '/Coverage: (\\d+\\.\\d+)%/'"]);
    gitlab("a: {script: x, coverage: '/(a|b): (\\d+)/'}\n", &["!reports:\n", "# ----\n# not carried over: `coverage:"]);
    gitlab(
        "a:\n  script: x\n  parallel: {matrix: [{P: aws, STACK: [x, y]}, {P: gcp}]}\n",
        &["- {P: aws, STACK: x}", "- {P: gcp, STACK: ''}", "STACK=${matrix.STACK}"],
    );
    let stages = "stages: [build, stage, test, end]\nbuild: {script: x, stage: build}\nlint: {script: x, stage: build, only: [main]}\n\
         test: {script: x, stage: test}\nend: {script: x, stage: end}\n";
    gitlab(
        &format!("{stages}show: {{stage: stage, script: x, when: manual}}\n"),
        &["needs: [build, lint?]", "needs: [build, lint?, test]", "look at: `when: manual` of `show`"],
    );
    gitlab(&format!("{stages}show: {{stage: stage, script: x, when: manual, allow_failure: false}}\n"), &["!needs"]);
    gitlab(&format!("{stages}show: {{stage: stage, script: x, rules: [{{when: manual}}]}}\n"), &["!needs"]);
}
