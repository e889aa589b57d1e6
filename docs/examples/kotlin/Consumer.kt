import com.fasterxml.jackson.module.kotlin.jacksonObjectMapper
import com.fasterxml.jackson.module.kotlin.readValue
import java.sql.Connection
import java.sql.DriverManager
import java.time.Duration
import org.apache.kafka.clients.consumer.ConsumerRecord
import org.apache.kafka.clients.consumer.KafkaConsumer
import org.apache.kafka.common.serialization.StringDeserializer

/** Adds each order to what its customer owes, once, however often the event is delivered. */
object Consumer {
    private val json = jacksonObjectMapper()

    /** Commits the work and the event's id, or neither. */
    fun handle(db: Connection, record: ConsumerRecord<String, String>) = db.transaction {
        if (enter("billing", record.id)) {
            val order = json.readValue<OrderPlaced>(record.value())
            prepareStatement(
                """insert into balance as b (customer, owed_cents) values (?, ?)
                   on conflict (customer) do update set owed_cents = b.owed_cents + excluded.owed_cents"""
            ).use {
                it.setString(1, order.customer)
                it.setLong(2, order.total_cents)
                it.executeUpdate()
            }
        }
    }

    /** Enters an event, and says whether it is there for the first time. */
    private fun Connection.enter(consumer: String, id: String): Boolean =
        prepareStatement("insert into event_inbox (consumer, id) values (?, ?) on conflict do nothing").use {
            it.setString(1, consumer)
            it.setString(2, id)
            it.executeUpdate() == 1
        }

    /** The first header "id", and not the last: the outbox row's own headers come after those of the relay. */
    private val ConsumerRecord<String, String>.id
        get() = String(headers().headers("id").first().value())

    /** Throws what fails first. Started again, the consumer gets everything whose offset was not committed. */
    @JvmStatic
    fun main(args: Array<String>) {
        val settings = mapOf<String, Any>(
            "bootstrap.servers" to System.getenv("KAFKA_BROKERS"),
            "group.id" to System.getenv("KAFKA_GROUP"),
            "enable.auto.commit" to false,
            "auto.offset.reset" to "earliest",
        )
        val db = DriverManager.getConnection(System.getenv("DATABASE_URL"))
        val kafka = KafkaConsumer(settings, StringDeserializer(), StringDeserializer())
        kafka.subscribe(listOf("outbox.event.order"))
        while (true) {
            for (record in kafka.poll(Duration.ofSeconds(1))) {
                handle(db, record)
            }
            kafka.commitSync()
        }
    }
}
