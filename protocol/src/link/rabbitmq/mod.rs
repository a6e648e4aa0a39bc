//! The line over RabbitMQ. Only this room names lapin.
