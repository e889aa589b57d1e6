import java.sql.{Connection, DriverManager}
import scala.util.Using

/** Commits all that work does, or nothing. */
def transaction[T](db: Connection)(work: => T): T =
  db.setAutoCommit(false)
  try
    val result = work
    db.commit()
    result
  catch
    case e: Exception =>
      db.rollback()
      throw e

/** Places orders, each with its event, for the relay to carry to Kafka. */
object Writer:
  /** Commits the order and its event, or neither. */
  def placeOrder(db: Connection, customer: String, totalCents: Long): Unit = transaction(db):
    val id = Using.resource(db.prepareStatement("insert into orders (customer, total_cents) values (?, ?) returning id")): insert =>
      insert.setString(1, customer)
      insert.setLong(2, totalCents)
      val rows = insert.executeQuery()
      rows.next()
      rows.getLong(1)
    val payload = ujson.Obj("order_id" -> id.toDouble, "customer" -> customer, "total_cents" -> totalCents.toDouble)
    Using.resource(db.prepareStatement(
      """insert into outbox (aggregate_type, aggregate_id, event_type, payload)
         values ('order', ?, 'OrderPlaced', ?::jsonb)""")): insert =>
      insert.setString(1, id.toString)
      insert.setString(2, payload.render())
      insert.executeUpdate()

  def main(args: Array[String]): Unit =
    val customers = Vector("ada", "ben", "cyd")
    Using.resource(DriverManager.getConnection(sys.env("DATABASE_URL"))): db =>
      for i <- 0 until args(0).toInt do
        placeOrder(db, customers(i % customers.size), 100L * (i + 1))
