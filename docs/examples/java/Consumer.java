import com.fasterxml.jackson.annotation.JsonIgnoreProperties;
import com.fasterxml.jackson.databind.ObjectMapper;
import java.nio.charset.StandardCharsets;
import java.sql.Connection;
import java.sql.DriverManager;
import java.time.Duration;
import java.util.List;
import java.util.Map;
import org.apache.kafka.clients.consumer.ConsumerRecord;
import org.apache.kafka.clients.consumer.KafkaConsumer;
import org.apache.kafka.common.serialization.StringDeserializer;

/** Adds each order to what its customer owes, once, however often the event is delivered. */
public class Consumer {
    @JsonIgnoreProperties(ignoreUnknown = true)
    record OrderPlaced(String customer, long total_cents) {}

    static final ObjectMapper JSON = new ObjectMapper();

    /** Commits the work and the event's id, or neither. */
    static void handle(Connection db, ConsumerRecord<String, String> record) throws Exception {
        try {
            if (enter(db, "billing", id(record))) {
                var order = JSON.readValue(record.value(), OrderPlaced.class);
                try (var update = db.prepareStatement("""
                        insert into balance as b (customer, owed_cents) values (?, ?)
                        on conflict (customer) do update set owed_cents = b.owed_cents + excluded.owed_cents""")) {
                    update.setString(1, order.customer());
                    update.setLong(2, order.total_cents());
                    update.executeUpdate();
                }
            }
            db.commit();
        } catch (Exception e) {
            db.rollback();
            throw e;
        }
    }

    /** Enters an event, and says whether it is there for the first time. */
    static boolean enter(Connection db, String consumer, String id) throws Exception {
        try (var insert = db.prepareStatement("insert into event_inbox (consumer, id) values (?, ?) on conflict do nothing")) {
            insert.setString(1, consumer);
            insert.setString(2, id);
            return insert.executeUpdate() == 1;
        }
    }

    /** The first header "id", and not the last: the outbox row's own headers come after those of the relay. */
    static String id(ConsumerRecord<String, String> record) {
        return new String(record.headers().headers("id").iterator().next().value(), StandardCharsets.UTF_8);
    }

    /** Throws what fails first. Started again, the consumer gets everything whose offset was not committed. */
    public static void main(String[] args) throws Exception {
        Map<String, Object> settings = Map.of(
            "bootstrap.servers", System.getenv("KAFKA_BROKERS"),
            "group.id", System.getenv("KAFKA_GROUP"),
            "enable.auto.commit", false,
            "auto.offset.reset", "earliest");
        try (var db = DriverManager.getConnection(System.getenv("DATABASE_URL"));
                var kafka = new KafkaConsumer<>(settings, new StringDeserializer(), new StringDeserializer())) {
            db.setAutoCommit(false);
            kafka.subscribe(List.of("outbox.event.order"));
            while (true) {
                for (var record : kafka.poll(Duration.ofSeconds(1))) {
                    handle(db, record);
                }
                kafka.commitSync();
            }
        }
    }
}
