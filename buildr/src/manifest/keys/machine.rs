//! Keys of containers: images, environment, services, resources.

use super::files::SEALED;
use super::{Form, Map, TEXTS, key, map};

/// What `image` takes.
pub(super) const IMAGE_FORM: Form = Form::Any(&[IMAGE_NAME, Form::Map(&IMAGE)]);

const IMAGE_NAME: Form = Form::Shaped("^[^\\s-][^\\s]*$", "the name of an image");

/// What `platform` takes.
pub(super) const PLATFORM_FORM: Form =
    Form::Shaped("^([a-z0-9_]+/[a-z0-9_]+(/[a-z0-9_]+)?|.*\\$\\{.*)$", "a platform, as linux/arm64");

/// What `agent` takes.
pub(super) const AGENT_FORM: Form = Form::Any(&[TEXTS, Form::Named(&Form::Text)]);

/// The long form of `image`.
pub(in crate::manifest) const IMAGE: Map = Map {
    required: &["name"],
    ..map(
        "an image",
        &[
            key(
                "name",
                IMAGE_NAME,
                "A name as `docker pull` takes it.",
                &["image: {name: debian:bookworm-slim}\nbuild: {script: make}"],
            ),
            key(
                "pull",
                Form::Word(&["missing", "always"]),
                "When it is pulled: when the machine does not have it, or each time. Without it: missing.",
                &["image: {name: registry.example.org/tools:4, pull: always}\nbuild: {script: make}"],
            ),
            key(
                "user",
                Form::Text,
                "The user in place of the image's own: a name or a number, or `user:group`.",
                &["build: {image: {name: node:24, user: root}, script: npm ci}"],
            ),
            key(
                "entrypoint",
                Form::Any(&[Form::AnyText, Form::Many(&Form::AnyText)]),
                "What starts the container's main process. For a stage there is none without it; for a service it is the image's own, and `[]` is none.",
                &["build: {image: {name: tools:1, entrypoint: [/init]}, script: make}"],
            ),
            key(
                "platform",
                PLATFORM_FORM,
                "The system and processor that the image is for.",
                &["build: {image: {name: tools:1, platform: linux/amd64}, script: make}"],
            ),
        ],
    )
};

/// Variables as a list.
pub(super) const VARS_LIST: Form = Form::List(&Form::Many(&ASSIGNMENT));

const ASSIGNMENT: Form = Form::Shaped("^[A-Za-z_][A-Za-z0-9_]*=", "NAME=VALUE");

/// Variables as a list or a map.
pub(super) const VARS_FORM: Form = Form::Any(&[VARS_LIST, Form::Named(&Form::AnyText)]);

/// `environment`.
pub(in crate::manifest) const ENVIRONMENT: Map = map(
    "`environment`",
    &[
        key(
            "inherit",
            Form::Any(&[Form::Flag, Form::List(&TEXTS)]),
            "What is passed on of the environment of whatever runs the build: nothing, all, or what these globs match. Without it: nothing.",
            &["environment: {inherit: [LANG, HTTP_*]}\nbuild: {script: make}"],
        ),
        key(
            "vars",
            Form::Any(&[VARS_LIST, Form::Named(&Form::Any(&[Form::AnyText, Form::Map(&SEALED)]))]),
            "Variables: a list of NAME=VALUE, or a map, in which values may be sealed by `buildr encrypt`. `CI` and what begins with `BUILDR_` is set by buildr.",
            &[
                "environment: {vars: [RELEASE=1.2.0, \"CHANNEL=${branch}\"]}\nbuild: {script: make}",
                "environment: {vars: {RELEASE: 1.2.0}}\nbuild: {script: make}",
            ],
        ),
    ],
);

/// `environment` of a service.
pub(in crate::manifest) const SERVICE_ENVIRONMENT: Map = Map {
    never: &[("inherit", "inherits nothing", "write the variables that it needs under `vars`")],
    ..map(
        "`environment` of a service",
        &[key(
            "vars",
            VARS_FORM,
            "Variables: a list of NAME=VALUE, or a map.",
            &[
                "unit: {services: {db: {image: postgres:17, environment: {vars: {POSTGRES_PASSWORD: x}}}}, script: make}",
            ],
        )],
    )
};

/// What `services` takes.
pub(super) const SERVICES_FORM: Form = Form::Named(&Form::Any(&[IMAGE_NAME, Form::Map(&SERVICE)]));

/// A service.
pub(in crate::manifest) const SERVICE: Map = Map {
    required: &["image"],
    never: &[
        ("ports", "has no \"ports\": stages reach all of its ports under its name", "take it out"),
        ("script", "is an image that runs, and has no \"script\"", "write `command` for what it runs"),
    ],
    ..map(
        "a service",
        &[
            key(
                "image",
                IMAGE_FORM,
                "What runs.",
                &["unit: {services: {db: {image: postgres:17}}, script: make test}"],
            ),
            key(
                "environment",
                Form::Any(&[Form::Map(&SERVICE_ENVIRONMENT), VARS_LIST]),
                "Its variables. A list is short for its `vars`.",
                &[
                    "unit: {services: {db: {image: postgres:17, environment: [POSTGRES_PASSWORD=x]}}, script: make test}",
                ],
            ),
            key(
                "command",
                Form::Any(&[Form::AnyText, Form::Many(&Form::AnyText)]),
                "What it runs in place of the image's own command.",
                &[
                    "unit: {services: {db: {image: postgres:17, command: [postgres, -c, fsync=off]}}, script: make test}",
                ],
            ),
            key(
                "ready",
                Form::Any(&[Form::Text, Form::Map(&READY)]),
                "When stages may begin: a command in it that ends with 0, `tcp:5432`, `http::8080/health`, or `log:/regex/`. Without it: by the image's own health check, else when its first port answers.",
                &[
                    "unit: {services: {db: {image: postgres:17, ready: pg_isready -U postgres}}, script: make test}",
                    "unit: {services: {queue: {image: \"rabbitmq:4\", ready: \"tcp:5672\"}}, script: make test}",
                ],
            ),
            key(
                "ready_timeout",
                Form::Duration,
                "How long it may take to be ready. Without it: a minute.",
                &["unit: {services: {db: {image: oracle:23, ready_timeout: 5m}}, script: make test}"],
            ),
            key(
                "resources",
                Form::Map(&RESOURCES),
                "What it may use of the machine.",
                &["unit: {services: {db: {image: postgres:17, resources: {memory: 1g}}}, script: make test}"],
            ),
            key(
                "privileged",
                Form::Flag,
                "Whether it asks for a privileged container. The owner of the machine that builds decides.",
                &["unit: {services: {dind: {image: \"docker:28-dind\", privileged: true}}, script: make test}"],
            ),
        ],
    )
};

/// The long form of `ready`: one of its keys.
pub(in crate::manifest) const READY: Map = Map {
    required: &["command", "tcp", "http", "log"],
    ..map(
        "`ready`",
        &[
            key(
                "command",
                Form::Text,
                "A shell command in its container that ends with 0.",
                &["unit: {services: {db: {image: postgres:17, ready: {command: pg_isready}}}, script: make test}"],
            ),
            key(
                "tcp",
                Form::Number(1, 65535),
                "A port that accepts connections.",
                &["unit: {services: {db: {image: postgres:17, ready: {tcp: 5432}}}, script: make test}"],
            ),
            key(
                "http",
                Form::Text,
                "A port and path that answer with a status below 400.",
                &["unit: {services: {web: {image: nginx:1, ready: {http: \":8080/health\"}}}, script: make test}"],
            ),
            key(
                "log",
                Form::Text,
                "A regular expression that matches something it prints.",
                &["unit: {services: {db: {image: mysql:9, ready: {log: ready for connections}}}, script: make test}"],
            ),
        ],
    )
};

/// `resources`.
pub(in crate::manifest) const RESOURCES: Map = map(
    "`resources`",
    &[
        key(
            "cpu",
            Form::Cores,
            "Cores of the processor: `2`, `0.5`, or `500m` for half of one.",
            &["build: {resources: {cpu: 1.5}, script: make}"],
        ),
        key("memory", Form::Size, "Memory: `512m`, `2g`.", &["build: {resources: {memory: 1.5g}, script: make}"]),
        key(
            "pids",
            Form::Number(1, 4_194_304),
            "Processes and threads.",
            &["build: {resources: {pids: 4096}, script: make}"],
        ),
        key(
            "shm",
            Form::Size,
            "Shared memory, for browsers and databases.",
            &["unit: {resources: {shm: 1g}, script: make test}"],
        ),
    ],
);
