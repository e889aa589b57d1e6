import java.sql.{Connection, DriverManager}
import java.time.Duration
import org.apache.kafka.clients.consumer.{ConsumerRecord, KafkaConsumer}
import org.apache.kafka.common.serialization.StringDeserializer
import scala.jdk.CollectionConverters.*
import scala.util.Using

/** Adds each order to what its customer owes, once, however often the event is delivered. */
object Consumer:
  /** Commits the work and the event's id, or neither. */
  def handle(db: Connection, record: ConsumerRecord[String, String]): Unit = transaction(db):
    if enter(db, "billing", id(record)) then
      val order = ujson.read(record.value)
      Using.resource(db.prepareStatement(
        """insert into balance as b (customer, owed_cents) values (?, ?)
           on conflict (customer) do update set owed_cents = b.owed_cents + excluded.owed_cents""")): update =>
        update.setString(1, order("customer").str)
        update.setLong(2, order("total_cents").num.toLong)
        update.executeUpdate()

  /** Enters an event, and says whether it is there for the first time. */
  def enter(db: Connection, consumer: String, id: String): Boolean =
    Using.resource(db.prepareStatement("insert into event_inbox (consumer, id) values (?, ?) on conflict do nothing")): insert =>
      insert.setString(1, consumer)
      insert.setString(2, id)
      insert.executeUpdate() == 1

  /** The first header "id", and not the last: the outbox row's own headers come after those of the relay. */
  def id(record: ConsumerRecord[String, String]): String =
    String(record.headers.headers("id").iterator.next.value, "UTF-8")

  /** Throws what fails first. Started again, the consumer gets everything whose offset was not committed. */
  def main(args: Array[String]): Unit =
    val settings = Map[String, AnyRef](
      "bootstrap.servers" -> sys.env("KAFKA_BROKERS"),
      "group.id" -> sys.env("KAFKA_GROUP"),
      "enable.auto.commit" -> "false",
      "auto.offset.reset" -> "earliest",
    )
    val db = DriverManager.getConnection(sys.env("DATABASE_URL"))
    val kafka = KafkaConsumer(settings.asJava, StringDeserializer(), StringDeserializer())
    kafka.subscribe(List("outbox.event.order").asJava)
    while true do
      for record <- kafka.poll(Duration.ofSeconds(1)).asScala do handle(db, record)
      kafka.commitSync()
