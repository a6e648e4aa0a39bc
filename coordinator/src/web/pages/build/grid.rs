//! The jobs of a matrix as a table: the last axis across, the others down. Pure.

use protocol::api::JobView;
use protocol::plan::Cell;

/// The jobs of one matrix.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Grid {
    /// What they have in common: the name before the axes.
    pub(super) name: String,
    /// The axis across.
    pub(super) across: String,
    /// Its values.
    pub(super) columns: Vec<String>,
    /// The rows.
    pub(super) rows: Vec<GridRow>,
}

/// One row.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct GridRow {
    /// The values of the other axes; empty where there is one axis alone.
    pub(super) name: String,
    /// One for each column; none where the matrix has no such cell.
    pub(super) cells: Vec<Option<GridCell>>,
}

/// One job.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct GridCell {
    /// Its place among the build's jobs.
    pub(super) place: usize,
    /// Where it stands.
    pub(super) status: &'static str,
    /// Its key, and what is to be said of it.
    pub(super) title: String,
}

/// The matrices of a build.
pub(super) fn grids(jobs: &[JobView]) -> Vec<Grid> {
    let mut grids: Vec<(String, Vec<&str>, Grid)> = Vec::new();
    for (place, job) in jobs.iter().enumerate() {
        let Some((last, others)) = job.cell.split_last() else { continue };
        let axes: Vec<&str> = job.cell.iter().map(|cell| cell.axis.as_str()).collect();
        let name = group(job);
        let known = grids.iter().position(|(other, with, _)| *other == name && *with == axes);
        let at = known.unwrap_or_else(|| {
            let grid = Grid { name: name.clone(), across: last.axis.clone(), columns: Vec::new(), rows: Vec::new() };
            grids.push((name, axes, grid));
            grids.len() - 1
        });
        let message = job.message.as_ref().map(|message| format!(": {message}")).unwrap_or_default();
        let title = format!("{} {}{message}", job.key, job.status.name());
        grids[at].2.add(others, &last.value, GridCell { place, status: job.status.name(), title });
    }
    grids.into_iter().map(|(_, _, grid)| grid).filter(|grid| grid.count() > 1).collect()
}

/// What the jobs of a matrix have in common: the key before its axes.
fn group(job: &JobView) -> String {
    job.key.as_str().split(" (").next().unwrap_or("").to_owned()
}

impl Grid {
    fn add(&mut self, others: &[Cell], column: &str, cell: GridCell) {
        let name = others.iter().map(|cell| cell.value.as_str()).collect::<Vec<_>>().join(" · ");
        let across = self.columns.iter().position(|known| known == column).unwrap_or_else(|| {
            self.columns.push(column.to_owned());
            for row in &mut self.rows {
                row.cells.push(None);
            }
            self.columns.len() - 1
        });
        let down = self.rows.iter().position(|row| row.name == name).unwrap_or_else(|| {
            self.rows.push(GridRow { name, cells: vec![None; self.columns.len()] });
            self.rows.len() - 1
        });
        self.rows[down].cells[across] = Some(cell);
    }

    fn count(&self) -> usize {
        self.rows.iter().flat_map(|row| &row.cells).flatten().count()
    }
}

#[cfg(test)]
mod tests {
    use protocol::LabelSet;
    use protocol::api::Status;

    use super::*;

    fn job(key: &str, cell: &[(&str, &str)]) -> JobView {
        JobView {
            key: key.parse().unwrap(),
            status: Status::Passed,
            message: None,
            needs: Vec::new(),
            labels: LabelSet::default(),
            cell: cell.iter().map(|(axis, value)| Cell { axis: (*axis).into(), value: (*value).into() }).collect(),
            stages: Vec::new(),
            gate: None,
            group: None,
            lane: None,
            downstream: None,
            finally: false,
            carried_from: None,
        }
    }

    fn check(jobs: &[JobView], expect: &[&str]) {
        let shown = |grid: &Grid| {
            let rows = grid.rows.iter().map(|row| {
                let cells =
                    row.cells.iter().map(|cell| cell.as_ref().map_or("-".into(), |cell| cell.place.to_string()));
                format!("{}:{}", row.name, cells.collect::<Vec<_>>().join(","))
            });
            format!("{}/{}[{}] {}", grid.name, grid.across, grid.columns.join(","), rows.collect::<Vec<_>>().join(" "))
        };
        assert_eq!(grids(jobs).iter().map(shown).collect::<Vec<_>>(), expect);
    }

    #[test]
    fn axes_become_rows_and_columns() {
        check(&[], &[]);
        check(&[job("build", &[])], &[]);
        check(
            &[job("t (os=a)", &[("os", "a")]), job("lint", &[]), job("t (os=b)", &[("os", "b")])],
            &["t/os[a,b] :0,2"],
        );
        check(
            &[
                job("t (os=a, v=1)", &[("os", "a"), ("v", "1")]),
                job("t (os=a, v=2)", &[("os", "a"), ("v", "2")]),
                job("t (os=b, v=2)", &[("os", "b"), ("v", "2")]),
            ],
            &["t/v[1,2] a:0,1 b:-,2"],
        );
        // Two matrices beside each other, and one that is left with a single cell.
        check(
            &[job("a (x=1)", &[("x", "1")]), job("a (x=2)", &[("x", "2")]), job("b (x=1)", &[("x", "1")])],
            &["a/x[1,2] :0,1"],
        );
    }
}
