source
{
}
